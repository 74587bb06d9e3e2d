import pytest

from engine.core.underlyings import underlying_of


@pytest.mark.parametrize(
    ("symbols", "coin"),
    [
        (
            "BTCUSDT BTCUSD BTCPERP btc/usdt BTC_USDT BTC/USDT:USDT BTC-27DEC24 BTCUSDT-27DEC24 BTCUSDH25 BTCUSDU26 BTC",
            "BTC",
        ),
        ("BTCUSDC BTCEUR BTC3LUSDT BTC2SUSDT WBTCUSDT XBTUSD BTCUSDE BTC-PERP", "BTC"),
        ("ETHUSDT ETHBTC ETHUSD STETHUSDT WETHUSDT ETHUSDTPERP", "ETH"),
        ("1000PEPEUSDT PEPEUSDT 1000PEPEPERP", "PEPE"),
        ("SHIB1000USDT SHIBUSDT 1000SHIBUSDT", "SHIB"),
        ("1000000MOGUSDT MOGUSDT", "MOG"),
        ("DOTUSD DOTUSDT", "DOT"),
        ("BNBUSD BNBUSDT", "BNB"),
        ("1INCHUSDT", "1INCH"),
        ("PERPUSDT", "PERP"),
        ("USDCUSDT", "USDC"),
        ("S USDT", "S"),
    ],
)
def test_every_spelling_of_a_market_is_the_same_coin(symbols, coin):
    names = [symbols] if " USDT" in symbols else symbols.split()
    assert {name: underlying_of(name) for name in names} == dict.fromkeys(names, coin)


def test_the_exchanges_own_word_for_the_coin_wins_over_the_spelling():
    assert underlying_of("XYZPERP", "BTC") == "BTC"
    assert underlying_of("1000BONKUSDT", "1000BONK") == "BONK"
    assert underlying_of("BTCUSDT", "") == "BTC"

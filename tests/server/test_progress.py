import asyncio

from tools.progress import PacedProgress


class Channel:
    def __init__(self) -> None:
        self.sent: list[float] = []
        self.arrived = asyncio.Event()

    async def send(self, done: float, total: float | None, message: str | None) -> None:
        self.sent.append(done)
        if len(self.sent) >= 3:
            self.arrived.set()


async def test_a_silent_tool_still_shows_life_with_rising_values():
    channel = Channel()
    async with PacedProgress(channel.send, heartbeat_seconds=0.01) as progress:
        await progress(5, 10, "pages")
        async with asyncio.timeout(60):
            await channel.arrived.wait()
    assert channel.sent[:2] == [0, 5]
    assert channel.sent == sorted(set(channel.sent))
    assert channel.sent[-1] < 10


async def test_nothing_is_sent_after_the_tool_has_ended():
    channel = Channel()
    async with PacedProgress(channel.send, heartbeat_seconds=0.01) as progress:
        pass
    sent = list(channel.sent)
    await progress(7, 10)
    assert channel.sent == sent


async def test_values_that_fall_back_are_raised_above_the_last():
    channel = Channel()
    async with PacedProgress(channel.send) as progress:
        await progress(8, 10)
        await progress(3, 10)
    assert channel.sent[:2] == [0, 8]
    assert 8 < channel.sent[2] < 10

"""Language-model work: routing, fallback and pipelines. Knows nothing of MCP.

::

    router      the one way to an answer: ask, submit, state
    ├── routing      task types and who is asked for each
    ├── cache        answers given again, asked for once
    ├── prompting    instructions from prompts/, everything else as data (hygiene)
    └── fallback     attempts, retries, re-asks, records
        ├── breaker, budget      who may be asked, and for how much
        ├── checks, numbers      is the answer in form, and are its figures in the facts
        └── client               the protocol; llm is its LiteLLM (translation, vendor_errors, copilot)
    settings, providers     what must be told; the agents as data
    questions, answers      what goes in and out; the forms of answers
    memory                  what must be remembered (the store keeps it)
    scripted                a model server that says what a script says, and breaks on purpose
"""

"""What the clients ask: one long beginning for all, so that the prefix cache is used, and an own end."""

from __future__ import annotations

# Longer than two blocks of vLLM's prefix cache (128 tokens on CPU); only whole blocks are reused.
SYSTEM = (
    "You are a planner. You are given a task and a list of tools, and you answer with a plan: numbered "
    "steps, each with a thought, the name of one tool and the input for that tool. A step may use the "
    "results of earlier steps, which are called #E1, #E2 and so on. Use only the tools of the list. Use"
    " as few steps as the task allows. Do not carry the plan out and do not guess results. Tools: "
    "Search looks a subject up in an encyclopedia and returns the first paragraph of the article. "
    "Calculator evaluates an arithmetic expression with numbers, brackets and the four operations. "
    "Calendar returns the day of the week of a date, and the number of days between two dates. Weather "
    "returns the forecast of a city for the next seven days, with the highest and the lowest "
    "temperature of each. Translate turns a sentence into another language, whose name comes first. "
    "Count returns the number of letters, words and lines of a text. Route returns the distance between"
    " two places and the time that the way takes on foot, by train and by car. Convert turns an amount "
    "of one unit into another one, currencies included. Write returns a text about the results of "
    "earlier steps, in the tone that the input asks for. If no tool helps with a part of the task, say "
    "so in the thought of the step that comes closest."
)
TASKS = (
    "How many days are there between the birthdays of the two authors?",
    "Which of the two cities will be warmer on Sunday, and by how much?",
    "Translate the name of the longest river of the country and count its letters.",
    "Write a short text about the oldest bridge of the city.",
)


def messages(number: int) -> list[dict[str, str]]:
    """The chat messages of request ``number``; the numbers make every prompt its own."""
    digits = " ".join(str(number % 100_000))
    task = TASKS[number % len(TASKS)]
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"Task {digits} : {task}"},
    ]

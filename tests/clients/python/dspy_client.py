"""DSPy, which asks through LiteLLM."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import dspy  # noqa: E402
from asked import (
    CALLED,
    HELLO,
    HI,
    KEY,
    MESSAGES,
    MODEL,
    PLAN,
    QUESTION,
    REPORT,
    TOOL,
    URL,
    get_weather,
    is_plan,
    same,
    tell,
)  # noqa: E402

WHERE = {"model": f"openai/{MODEL}", "api_base": URL, "api_key": KEY, "cache": False}


def chat():
    same(dspy.LM(**WHERE)(HI), [HELLO])


def responses():
    (answer,) = dspy.LM(**WHERE, model_type="responses")(HI)
    same(answer["text"] if isinstance(answer, dict) else answer, HELLO)


def plans():
    is_plan(dspy.LM(**WHERE, extra_body=PLAN)(HI)[0])


tell(chat=chat, responses=responses, plans=plans)

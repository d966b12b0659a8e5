"""DSPy, which asks through LiteLLM."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import dspy
from asked import (
    HELLO,
    HI,
    KEY,
    MODEL,
    PLAN,
    URL,
    is_plan,
    same,
    tell,
)

WHERE = {"model": f"openai/{MODEL}", "api_base": URL, "api_key": KEY, "cache": False}


def chat():
    same(dspy.LM(**WHERE)(HI), [HELLO])


def responses():
    (answer,) = dspy.LM(**WHERE, model_type="responses")(HI)
    same(answer["text"] if isinstance(answer, dict) else answer, HELLO)


def plans():
    is_plan(dspy.LM(**WHERE, extra_body=PLAN)(HI)[0])


tell(chat=chat, responses=responses, plans=plans)

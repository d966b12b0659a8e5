"""llm, Simon Willison's library behind the command of that name."""

import json
import os
import tempfile

os.environ["LLM_USER_PATH"] = tempfile.mkdtemp()
from asked import (
    HELLO,
    HI,
    KEY,
    LANA,
    MODEL,
    QUESTION,
    REPORT,
    URL,
    Person,
    get_weather,
    same,
    tell,
)
from llm.default_plugins.openai_models import Chat

model = Chat(MODEL, model_name=MODEL, api_base=URL, supports_tools=True, supports_schema=True)


def chat():
    same(model.prompt(HI, key=KEY, stream=False).text(), HELLO)
    same(model.chain(QUESTION, tools=[get_weather], key=KEY, stream=False).text().endswith(REPORT), True)


def stream():
    same("".join(model.prompt(HI, key=KEY, stream=True)), HELLO)


def structured():
    answer = model.prompt(HI, schema=Person, key=KEY, stream=False).text()
    same(Person.model_validate(json.loads(answer)), LANA)


tell(chat=chat, stream=stream, structured=structured)

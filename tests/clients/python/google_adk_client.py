"""Google's ADK, through LiteLLM."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
from asked import HELLO, HI, KEY, MODEL, QUESTION, REPORT, URL, get_weather, same, tell  # noqa: E402
from google.adk.agents import LlmAgent  # noqa: E402
from google.adk.models.lite_llm import LiteLlm  # noqa: E402
from google.adk.runners import InMemoryRunner  # noqa: E402
from google.genai import types  # noqa: E402


async def said(text, **more):
    model = LiteLlm(model=f"openai/{MODEL}", api_base=URL, api_key=KEY)
    runner = InMemoryRunner(LlmAgent(name="a", model=model, **more), app_name="a")
    session = await runner.session_service.create_session(app_name="a", user_id="u")
    asked = types.Content(role="user", parts=[types.Part(text=text)])
    events = [
        event async for event in runner.run_async(user_id="u", session_id=session.id, new_message=asked)
    ]
    return "".join(part.text or "" for part in events[-1].content.parts)


async def chat():
    same(await said(HI), HELLO)
    same(await said(QUESTION, tools=[get_weather]), REPORT)


tell(chat=chat)

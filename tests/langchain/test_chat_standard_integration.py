"""LangChain's standard integration tests of chat models, on the real engine with the 135M demo model.

The model is bounded, and not the tests: 100 tokens an answer, 24 characters a string in tool arguments and
structured output, and a penalty on what it repeats: JSON may hold any number of blanks between its parts, of
which the model would write no end. What it cannot do even so is marked with the reason; a mark that no longer
holds fails.
"""

from __future__ import annotations

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_tests.integration_tests import ChatModelIntegrationTests

from planners.langchain import ChatS3LoRA

pytestmark = [
    pytest.mark.engine,
    # langchain-openai says these of its own classes, with every provider.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
    pytest.mark.filterwarnings("ignore:Received a Pydantic BaseModel V1 schema:UserWarning"),
]


def beyond(what, failure=AssertionError):
    """The mark of a test that asks too much of 135 million parameters."""
    return pytest.mark.xfail(
        strict=True, raises=failure, reason=f"needs a capable model: SmolLM2-135M {what}"
    )


class TestChatS3LoRAStandard(ChatModelIntegrationTests):
    """Each test passes, is skipped for what the server does not offer, or says why it cannot pass."""

    @pytest.fixture(autouse=True)
    def _on(self, live):
        self.live = live

    @property
    def chat_model_class(self):
        return ChatS3LoRA

    @property
    def chat_model_params(self):
        return {
            "model": self.live.planner,
            "base_url": self.live.url,
            "api_key": self.live.key,
            "temperature": 0,
            "max_tokens": 100,
            "max_text": 24,
            "frequency_penalty": 1.0,
            "timeout": 60,
        }

    @property
    def supports_json_mode(self):
        return True

    @property
    def supports_model_override(self):
        return True

    @property
    def model_override_value(self):
        return self.live.base

    @property
    def supported_usage_metadata_details(self):
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    def invoke_with_cache_read_input(self, *, stream=False):
        """The answer to a prompt of several cache blocks that was answered before."""
        model = ChatS3LoRA(**{**self.chat_model_params, "max_tokens": 4})
        prompt = "one two three four five six seven eight nine ten " * 40
        model.invoke(prompt)
        message = model.invoke(prompt)
        if stream:
            chunks = list(model.stream(prompt))
            message = sum(chunks[1:], start=chunks[0])
        assert message.usage_metadata["input_token_details"]["cache_read"] > 0
        return message

    @beyond("writes JSON of its own shape when only JSON is asked for, not a schema", OutputParserException)
    def test_json_mode(self, model):
        super().test_json_mode(model)

    @beyond("does not choose to call a tool by itself")
    @pytest.mark.parametrize("model", [{}, {"output_version": "v1"}], indirect=True)
    def test_agent_loop(self, model):
        super().test_agent_loop(model)

    @beyond("calls the tool, but does not repeat Japanese names")
    def test_unicode_tool_call_integration(self, model):
        super().test_unicode_tool_call_integration(model)

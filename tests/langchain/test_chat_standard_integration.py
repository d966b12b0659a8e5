"""LangChain's standard integration tests of chat models, on the real engine with the 135M demo model."""

from __future__ import annotations

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests

from planners.langchain.chat import ChatS3LoRA

pytestmark = pytest.mark.engine


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
            "max_text": 40,
            "timeout": 60,
        }

    @property
    def supports_json_mode(self):
        return True

    @property
    def model_override_value(self):
        return self.live.base

    @property
    def supports_model_override(self):
        return True

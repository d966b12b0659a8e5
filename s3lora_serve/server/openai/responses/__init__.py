"""/v1/responses: OpenAI's Responses, checked and guarded as chats are, and nothing of them is kept."""

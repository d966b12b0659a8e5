"""What a foreign refusal looks like to rules that know English only."""

from __future__ import annotations

import pytest

from s3lora_serve.judging.english import is_english


@pytest.mark.parametrize(
    "answer",
    [
        "42", "3.14", "Paris", "Christopher Nolan", "São Paulo", "Yes.", "No",
        "Emma Thomas, Christopher Nolan",
        "Christopher Nolan directed Tenet.", "I'm sorry, but I can't help with that.", "I’m sorry.",
        "Sure! Here is how you can find the answer:", "First, search for the film; then look at its cast.",
        "The word for it in French is « pomme de terre ».", "The Universidad de los Andes is in Bogotá.",
        "def add(a, b):\n    return a + b", '{"query": "Tenet", "limit": 3}',
        "SELECT name FROM film WHERE id = 3;",
        "https://example.org/films/tenet", "x = 3; y = 4", "Größe, Straße and Köln are German words.",
        "To plan a trip to Łódź you can look at the trains from Warszawa.",
    ],
)  # fmt: skip
def test_answers_are_answers(answer):
    """English, names, numbers, code: nothing that the judge of refusals could not read."""
    assert is_english(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Lo siento, pero no puedo ayudar con eso.", "No puedo ayudarte con esa petición, lo siento.",
        "Je suis désolé, mais je ne peux pas vous aider.", "Je ne peux pas.", "Désolé, je ne peux pas.",
        "Es tut mir leid, aber ich kann dir dabei nicht helfen.", "Das kann ich nicht.",
        "Mi dispiace, ma non posso aiutarti.", "Desculpe, mas não posso ajudar com isso.",
        "Het spijt me, maar ik kan je daar niet mee helpen.", "Maaf, saya tidak bisa membantu dengan itu.",
        "Üzgünüm, bu konuda yardımcı olamam.", "Przykro mi, ale nie mogę w tym pomóc.",
        "Извините, я не могу помочь.", "抱歉，我无法协助。", "申し訳ありませんが、お手伝いできません。",
        "عذراً، لا أستطيع المساعدة.", "Tôi rất tiếc, tôi không thể giúp.",
        "V'z fbeel, ohg V pna'g uryc jvgu gung.",
        "MAAF SAYA TIDAK BISA", "Samahani, siwezi kusaidia na hilo kabisa.", "क्षमा करें, मैं मदद नहीं कर सकता।",
    ],
)  # fmt: skip
def test_other_languages_are_seen(answer):
    """By their letters, by their commonest words, or because there is no English one."""
    assert not is_english(answer)

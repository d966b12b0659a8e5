"""A guard model or a moderation route elsewhere, asked over HTTP"""

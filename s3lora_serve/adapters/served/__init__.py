"""The engine's own names for a base model's modules, and whether an adapter fits those"""

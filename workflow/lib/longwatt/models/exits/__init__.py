"""Encoders with classifiers on several layers."""

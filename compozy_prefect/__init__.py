"""compozy"""

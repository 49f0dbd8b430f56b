"""Evaluation: is the policy better, and how confident can we be?"""

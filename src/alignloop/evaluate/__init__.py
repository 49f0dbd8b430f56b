"""The honest evaluation: is the policy better, and how sure are we?"""

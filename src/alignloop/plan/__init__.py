"""`alignloop plan`: what a recipe needs, before it runs."""

from alignloop.plan.recipe import Plan, plan_recipe

__all__ = ["Plan", "plan_recipe"]

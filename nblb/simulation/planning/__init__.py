"""Forecasts for planning: loads by pattern or from a trace, the measures of a forecast, and a page with its charts."""

"""The study engine: configurations composed, jobs launched, runs kept, studies compared.

It knows no word of the laboratory and of the layer: what it has to know of them is declared.
"""

"""The Hub: what is pushed is checked first, and tried again where that may help."""

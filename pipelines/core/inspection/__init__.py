"""What is wrong with somebody's tables, in words, and which settings would make sense of them."""

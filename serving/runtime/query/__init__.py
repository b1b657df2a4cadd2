"""Query understanding: from what a shopper wrote to words, bounds and boosts, each step traced. Pure."""

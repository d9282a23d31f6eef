"""Networks, and what must travel with them."""

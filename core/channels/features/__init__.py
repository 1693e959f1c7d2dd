"""What is computed of an order of one channel, and of a customer over all of them."""

"""Starts the product and its peers, and speaks to them as clients, browsers and attackers do."""

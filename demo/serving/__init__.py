"""How the app meets the network: whose requests are served, how many, and by which server."""

"""What a recurrent network remembers: gradient flow, memory horizon, and what they advise."""

"""What a recurrent network remembers: gradient flow, memory horizon, and advice from both."""

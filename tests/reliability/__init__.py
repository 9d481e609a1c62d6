"""What is promised about hostile input, full disks, kills: each kind tried beyond the case that was found."""

"""What the daemon says: lines of JSON for machines, or of text for people, one a happening.

`webhookd.logs.actions` has the closed list of happenings and the one function that tells them;
`webhookd.logs.setup` decides where and in which form they are written.
"""

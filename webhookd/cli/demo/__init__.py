"""`webhookd demo`: one small ERP, two partners, a real daemon, and whether all went as promised.

`script` is what happens and who is to hear of it, `erp` the ERP (a program of its own), `partners`
the receivers, `stage` the processes, `checks` the judgement, `story` the order of it all. trio is
imported at the top of some of them, so only the command itself imports them, once it runs.
"""

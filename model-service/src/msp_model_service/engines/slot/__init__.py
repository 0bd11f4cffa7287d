"""The batching engine: many requests share each forward pass, every one in a row of its own.

| file | its subject |
|---|---|
| `scheduler`, `prefix`, `rows` | decisions: what to prefill, whom to admit, where; no tensors |
| `kv_cache`, `masks`, `row_attention`, `forward` | one forward pass over rows of different lengths |
| `row_sampling`, `batch_sampler` | the next token of each row, as its request asks |
| `accepting`, `sequence`, `delivery`, `told_errors` | requests on their way in, and events on their way out |
| `reading` | prompts through the model, several together |
| `batch`, `tally`, `loop` | one step after another, and the thread that makes them |
| `fitness`, `self_test`, `kv_budget`, `packed_linear`, `precision` | what is found out while loading |
| `vision` | prompts with images |
| `slot_chat`, `auto_chat` | the ChatEngine, and the one that falls back to `generate` |
"""

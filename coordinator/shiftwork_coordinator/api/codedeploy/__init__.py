"""CodeDeploy's own API, for its SDKs and tools: the same use cases in its words. `operations` knows no codec, and
`json11` no operation."""

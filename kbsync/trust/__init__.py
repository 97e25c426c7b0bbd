"""May a change of Wikidata become an edit? Pure decisions from the history of facts and labels; no I/O."""

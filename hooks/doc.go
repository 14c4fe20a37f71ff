// Package hooks runs writers: the applications that take part in a snapshot
// set. A writer is asked to get ready (prepare), to hold still (freeze), to let
// go (thaw), and is told at the end how it went (post, or abort).
//
// # Two forms of one contract
//
// In the session form a writer is one child process that lives as long as its
// hold. This is the form to prefer: a lock that belongs to a database session
// vanishes with that session, so a killed daemon can never leave a database
// locked, and a session that died in between cannot pretend that it held. The
// command form runs one command a phase; nothing is left in between that
// Fermata could watch, so such a hold is believed, not seen.
//
// # The session's lines
//
// The child is started at prepare, reads one request a line from its standard
// input, and answers each with one line on its standard output. Lines are
// UTF-8, end with a single newline and are at most 64 KiB long ([MaxLine]).
//
//	request = phase *( SP key "=" value ) LF
//	phase   = "prepare" | "freeze" | "thaw" | "abort" | "post" |
//	          "recover" | "verify" | "report"
//	value   = *( letter | digit | one of "-._~/:@+" | "%" 2HEX | "," )
//
//	answer  = "ok" [ SP JSON-object ] LF
//	        | "inactive" [ SP text ] LF      only to prepare
//	        | "lost" SP text LF              only to thaw
//	        | "error" SP text LF
//
// Keys of a request: "set" (the id of the snapshot set), "policy", "outcome"
// ("ok", "failed" or "timeout"; with thaw, abort, post and report), "dry-run"
// ("true" or "false"), "timeout-ms" (how long Fermata waits for this answer),
// "volumes" (the set's mount points, joined by commas; a comma in a name is
// escaped; with prepare and the last three) and, with the last three,
// "prepared" (the JSON object of the answer to prepare). A writer ignores keys that it does not know. Empty values
// are left out.
//
// "ok" to prepare: ready. "ok" to freeze: the hold holds from now on. "ok" to
// thaw: the hold has held until this moment, and has now been let go. "lost":
// let go, but the hold did not hold to the end; the set will be deleted.
// "inactive": the application does not run, so its files are at rest. The JSON
// object goes into the set's manifest.
//
// The last three phases are asked beside a set, of a writer that declares them,
// each of a child of its own: see [Asides].
//
// End of file on standard input means: let go now, and exit. It is what a
// writer sees when the daemon dies, and it comes after every set.
//
// Anything else ends the session, and breaks the hold if there was one: an
// answer that was not asked for, a line that is too long or not in the grammar,
// end of file on standard output, an exit, no answer in time. A session that
// was ended so gets SIGTERM (it and its whole process group), and everything that
// it has started SIGKILL when it has gone, two seconds later at the latest.
package hooks

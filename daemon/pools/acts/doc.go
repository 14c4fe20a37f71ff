// Package acts decides what is done about a pool that fills up, and has it done: extend it, delete sets that are expendable, and
// say so. What is decided is pure (plan.go); a keeper (keeper.go) follows the watch and has one act done at a time by a [Doer], which
// waits for its turn as every other change does, so that nothing is touched while a set holds something.
//
// An act is repeated as long as the pool stays at the level that asks for it. After one that failed, or had nothing left to do, the
// same is not tried again for a minute, and each time for twice as long; a pool that has risen to another level is tried at once.
package acts

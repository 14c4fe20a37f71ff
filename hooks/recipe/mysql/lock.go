package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// lock is a way to hold a server.
type lock struct {
	name     string
	commits  bool     // nobody commits while it is held
	waits    bool     // it waits for statements, and others wait with it
	rehearse []string // by prepare: whether the rights suffice; flushes early
	take     []string
	release  string
	// again is a statement of the session that holds which the server refuses for
	// just that reason, with number heldNumber; empty if there is none.
	again      string
	heldNumber uint16
	rights     string // what rehearse and take need
}

// errBackupStage is ER_BACKUP_STAGE_FAILED of MariaDB: the session is at that
// stage, or past it.
const errBackupStage = 4147

var locks = []lock{
	{
		name: "backup-stage", commits: true,
		rehearse: []string{"BACKUP STAGE START", "BACKUP STAGE FLUSH", "BACKUP STAGE END"},
		take:     []string{"BACKUP STAGE START", "BACKUP STAGE FLUSH", "BACKUP STAGE BLOCK_DDL", "BACKUP STAGE BLOCK_COMMIT"},
		release:  "BACKUP STAGE END",
		again:    "BACKUP STAGE BLOCK_COMMIT", heldNumber: errBackupStage,
		rights: "RELOAD",
	},
	{
		name: "instance",
		// InnoDB alone: no engine's files need to be closed, and none is half written that its log does not mend.
		rehearse: []string{"LOCK INSTANCE FOR BACKUP", "UNLOCK INSTANCE"},
		take:     []string{"LOCK INSTANCE FOR BACKUP"},
		release:  "UNLOCK INSTANCE",
		rights:   "BACKUP_ADMIN",
	},
	{
		name: "read-lock", commits: true, waits: true,
		// The first needs the right that the lock needs, and makes nobody wait. The second needs the right to see other
		// sessions' statements: a list without them looks like an idle server.
		rehearse: []string{"FLUSH LOCAL ENGINE LOGS", "SHOW ENGINE INNODB STATUS"},
		take:     []string{"FLUSH TABLES WITH READ LOCK"},
		release:  "UNLOCK TABLES",
		rights:   "RELOAD, PROCESS",
	},
}

// Locks are the names of all.
func Locks() []string {
	var names []string
	for _, l := range locks {
		names = append(names, l.name)
	}
	return names
}

// lockNamed returns the lock of a name, and nothing for no name.
func lockNamed(name string) (lock, error) {
	i := slices.IndexFunc(locks, func(l lock) bool { return l.name == name })
	switch {
	case name == "":
		return lock{}, nil
	case i < 0:
		return lock{}, fmt.Errorf("there is no lock %q: %s", name, strings.Join(Locks(), ", "))
	}
	return locks[i], nil
}

// choose returns the lock that was asked for, if the server has it; if none was,
// the one that costs clients least. others says whether there are tables of other
// engines than InnoDB.
func choose(name string, s server, others bool) (lock, error) {
	stages := s.mariadb && s.atLeast(10, 4)
	instance := !s.mariadb && s.atLeast(8, 0)
	switch {
	case name == "backup-stage" && !stages:
		return lock{}, fmt.Errorf("lock backup-stage needs MariaDB 10.4 or newer, and this is %s", s.version)
	case name == "instance" && !instance:
		return lock{}, fmt.Errorf("lock instance needs MySQL 8.0 or newer, and this is %s", s.version)
	case name == "instance" && others:
		return lock{}, errors.New("lock instance does not hold tables of other engines than InnoDB, and there are some: use read-lock")
	case name == "" && stages:
		name = "backup-stage"
	case name == "" && instance && !others:
		name = "instance"
	case name == "":
		name = "read-lock"
	}
	return lockNamed(name)
}

// stillHeld is nil if the session has the lock, as far as it can be asked: a lock
// that has no such question is taken from nobody whose session lives.
func (l lock) stillHeld(ctx context.Context, s *session) error {
	if l.again == "" {
		return nil
	}
	err := s.exec(ctx, l.again)
	if err == nil {
		return fmt.Errorf("the session no longer had its lock (%s)", l.name)
	}
	if !hasNumber(err, l.heldNumber) {
		return fmt.Errorf("cannot see whether the lock was still held: %w", err)
	}
	return nil
}

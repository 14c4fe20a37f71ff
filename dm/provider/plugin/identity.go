package plugin

import (
	"fmt"
	"os/user"
	"strconv"
	"syscall"
)

// identity makes a process run as a user, given by name or number; "" is our own.
func identity(name string, attr *syscall.SysProcAttr, env []string) ([]string, error) {
	if name == "" {
		return env, nil
	}
	u, err := user.Lookup(name)
	if _, number := strconv.ParseUint(name, 10, 32); number == nil {
		u, err = user.LookupId(name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot run as %s: %w", name, err)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("cannot find the groups of user %s: %w", name, err)
	}
	var ids []uint32
	for _, text := range append([]string{u.Uid, u.Gid}, groups...) {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("cannot run as %s: %w", name, err)
		}
		ids = append(ids, uint32(id))
	}
	attr.Credential = &syscall.Credential{Uid: ids[0], Gid: ids[1], Groups: ids[2:]}
	return append(env, "HOME="+u.HomeDir, "USER="+u.Username), nil
}

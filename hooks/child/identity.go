package child

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// Identity is who a program runs as.
type Identity struct {
	Credential *syscall.Credential // nil: as we are
	user       *user.User          // nil: as we are
}

// Identify resolves a user and a group by name or number; "" is our own. Without a group it is the user's primary one; the
// supplementary groups are always the user's.
func Identify(userName, groupName string) (Identity, error) {
	if userName == "" && groupName == "" {
		return Identity{}, nil
	}
	var who Identity
	cred := syscall.Credential{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}
	if userName != "" {
		u, err := findUser(userName)
		if err != nil {
			return Identity{}, err
		}
		who.user = u
		if cred.Uid, err = parseUint32(u.Uid); err != nil {
			return Identity{}, fmt.Errorf("user %s: %w", userName, err)
		}
		if cred.Gid, err = parseUint32(u.Gid); err != nil {
			return Identity{}, fmt.Errorf("user %s: %w", userName, err)
		}
		if cred.Groups, err = supplementary(u); err != nil {
			return Identity{}, err
		}
	}
	if groupName != "" {
		gid, err := findGroup(groupName)
		if err != nil {
			return Identity{}, err
		}
		cred.Gid = gid
	}
	if os.Geteuid() == 0 {
		who.Credential = &cred
	} else if cred.Uid != uint32(os.Geteuid()) || cred.Gid != uint32(os.Getegid()) {
		return Identity{}, fmt.Errorf("cannot run as user %q group %q: only root can: %w", userName, groupName, syscall.EPERM)
	}
	return who, nil
}

func findUser(name string) (*user.User, error) {
	if _, err := strconv.ParseUint(name, 10, 32); err == nil {
		return user.LookupId(name)
	}
	return user.Lookup(name)
}

func findGroup(name string) (uint32, error) {
	if gid, err := parseUint32(name); err == nil {
		return gid, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return parseUint32(g.Gid)
}

func supplementary(u *user.User) ([]uint32, error) {
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("cannot find the groups of user %s: %w", u.Username, err)
	}
	gids := make([]uint32, len(ids))
	for i, id := range ids {
		if gids[i], err = parseUint32(id); err != nil {
			return nil, fmt.Errorf("group of user %s: %w", u.Username, err)
		}
	}
	return gids, nil
}

// Env are the variables that name the user; none if it is our own.
func (i Identity) Env() []string {
	if i.user == nil {
		return nil
	}
	return []string{"HOME=" + i.user.HomeDir, "USER=" + i.user.Username, "LOGNAME=" + i.user.Username}
}

func parseUint32(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

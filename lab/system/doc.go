// Package system tests the whole of Fermata in a guest: real systemd, real bus, real LVM, a real database, and the
// programs as a package installs them. It has no code of its own; its tests have the build tag lab.
package system

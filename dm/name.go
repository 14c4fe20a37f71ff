package dm

import "strings"

// EscapeLVMName is how LVM writes the name of a VG or LV inside a device-mapper name: hyphens are doubled.
func EscapeLVMName(name string) string { return strings.ReplaceAll(name, "-", "--") }

// JoinLVMName makes the device-mapper name of an LV: "vg-lv", or "vg-lv-layer" for the devices below it, whose layer is
// "real", "cow", "tpool" and so on.
func JoinLVMName(vg, lv, layer string) string {
	name := EscapeLVMName(vg) + "-" + EscapeLVMName(lv)
	if layer != "" {
		name += "-" + layer
	}
	return name
}

// SplitLVMName takes the device-mapper name of an LV apart. It reports false for a name that LVM cannot have made; true
// does not mean that it did.
func SplitLVMName(name string) (vg, lv, layer string, ok bool) {
	parts := [3]strings.Builder{}
	n := 0
	for i := 0; i < len(name); i++ {
		switch {
		case name[i] != '-':
		case i+1 < len(name) && name[i+1] == '-':
			i++
		case n == 2:
			return "", "", "", false
		default:
			n++
			continue
		}
		parts[n].WriteByte(name[i])
	}
	vg, lv, layer = parts[0].String(), parts[1].String(), parts[2].String()
	if vg == "" || lv == "" || (n == 2 && layer == "") {
		return "", "", "", false
	}
	return vg, lv, layer, true
}

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/fermata-project/fermata/daemon/api"
)

// branches draw a tree.
type branches struct{ more, last, down, none string }

var (
	boxes = branches{"├─", "└─", "│ ", "  "}
	ascii = branches{"|-", "`-", "| ", "  "}
)

// branchStyle is boxes if the locale's characters are UTF-8 (locale(7): LC_ALL goes before LC_CTYPE before LANG).
func branchStyle(getenv func(string) string) branches {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToLower(getenv(name)); value != "" {
			if strings.Contains(value, "utf-8") || strings.Contains(value, "utf8") {
				return boxes
			}
			return ascii
		}
	}
	return ascii
}

// blank is a cell with nothing in it: an empty one would be a hyphen.
const blank = " "

var treeHead, treeRight = []string{"NAME", "KIND", "SIZE", "DEVICE", "PROVIDER", "FREEZABLE", "PROBLEM"}, []bool{2: true, 6: false}

// printTrees prints every volume with what it rests on.
func (a *app) printTrees(volumes []api.Volume, explain bool) {
	style := branchStyle(os.Getenv)
	if !explain {
		var rows [][]string
		for _, v := range volumes {
			rows = append(rows, treeRows(v, style)...)
		}
		printTable(a, treeHead, treeRight, rows)
		return
	}
	for i, v := range volumes {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		printTable(a, treeHead, treeRight, treeRows(v, style))
		printIndented(a, "  ", nil, nil, reasons(v))
	}
}

// printVolume prints all of one volume.
func (a *app) printVolume(v api.Volume) {
	rows := [][]string{{"volume", v.Name}, {"device", v.Device}, {"size", size(v.Size)}, {"disks", words(v.Disks)}}
	if len(v.MountPoints) > 0 {
		rows = append(rows, []string{"mounted on", words(v.MountPoints)}, []string{"filesystem", v.FSType})
	}
	printTable(a, nil, nil, append(rows, reasons(v)...))
	fmt.Fprintln(a.out)
	printTable(a, treeHead, treeRight, treeRows(v, branchStyle(os.Getenv)))
}

// reasons say who takes a volume and who does not, and whether it would be frozen.
func reasons(v api.Volume) [][]string {
	rows := [][]string{{"provider", v.Provider}}
	if v.Provider == "" {
		rows[0][1] = "none"
	}
	for _, r := range grouped(v.Refused) {
		rows = append(rows, []string{"  not " + r[0], r[1]})
	}
	if v.Freezable {
		return append(rows, []string{"freezable", "yes"})
	}
	return append(rows, []string{"freezable", "no: " + v.Unfrozen})
}

func refusals(v api.Volume) string {
	var all []string
	for _, r := range grouped(v.Refused) {
		all = append(all, r[0]+": "+r[1])
	}
	return strings.Join(all, "; ")
}

// treeRows draws a volume's stack. What is said of the whole volume stands on the first line.
func treeRows(v api.Volume, style branches) [][]string {
	root := api.Node{Kind: api.NodeDisk, Name: v.Name, Size: v.Size}
	if v.Stack != nil {
		root = *v.Stack
	}
	rows := nodeRows(root, "", "", style)
	rows[0][4], rows[0][5] = v.Provider, yes(v.Freezable)
	if v.Problem != "" {
		rows[0][6] = v.Problem
	}
	return rows
}

// nodeRows draws a node and those below it; first begins its own line, rest the lines below.
func nodeRows(n api.Node, first, rest string, style branches) [][]string {
	name := n.Name
	if len(n.MountPoints) > 0 {
		name = words(n.MountPoints)
	}
	if n.Layer != "" {
		name += " (" + n.Layer + ")"
	}
	if n.Kind == api.NodeFilesystem {
		n.Size = 0 // the mount's line has it
	}
	row := []string{first + name, strings.Join(append([]string{string(n.Kind)}, n.Targets...), " "), blank, n.Device, blank, blank, n.Problem}
	if n.Size > 0 {
		row[2] = size(n.Size)
	}
	for i, cell := range row {
		if cell == "" {
			row[i] = blank
		}
	}
	rows := [][]string{row}
	for i, b := range n.Below {
		join, under := style.more, style.down
		if i == len(n.Below)-1 {
			join, under = style.last, style.none
		}
		rows = append(rows, nodeRows(b, rest+join, rest+under, style)...)
	}
	return rows
}

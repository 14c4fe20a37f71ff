package config

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxQuoted     = 60 // characters of a user's text that a message repeats
	maxSuggestion = 64 // bytes of a word for which a suggestion is looked for
)

// shorten cuts text to what a message can carry.
func shorten(text string) string {
	if utf8.RuneCountInString(text) <= maxQuoted {
		return text
	}
	return string([]rune(text)[:maxQuoted]) + "…"
}

func quote(text string) string { return strconv.Quote(shorten(text)) }

// didYouMean returns `: did you mean "freeze"?` when what was written is a few typing errors away
// from one of the words, or the beginning of one, else "".
func didYouMean(written string, words []string) string {
	if len(written) > maxSuggestion {
		return ""
	}
	best, least := "", max(1, len(written)/3)+1
	for _, word := range slices.Sorted(slices.Values(words)) {
		n := distance(fold(written), fold(word))
		if len(written) >= 3 && strings.HasPrefix(fold(word), fold(written)) {
			n = 1
		}
		if n < least {
			best, least = word, n
		}
	}
	if best == "" {
		return ""
	}
	return ": did you mean " + quote(best) + "?"
}

// fold makes spellings of one key equal: State-Directory, state_directory.
func fold(word string) string {
	return strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(word))
}

// distance is the number of single bytes to insert, delete, replace or swap with their neighbour to
// make a into b (optimal string alignment).
func distance(a, b string) int {
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

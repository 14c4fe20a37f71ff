package daemon

import (
	"slices"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/fsfreeze/rescue"
)

// A start says what it released; what it could not is an error, so that the journal stays.
func TestRescueIsTold(t *testing.T) {
	of := func(k rescue.Kind, r rescue.Result, text string) rescue.Outcome {
		return rescue.Outcome{Kind: k, Name: "x", Result: r, Error: text}
	}
	for _, tt := range []struct {
		outcome rescue.Outcome
		did     string
		err     string
	}{
		{of(rescue.KindDevice, rescue.Released, ""), "resumed x", ""},
		{of(rescue.KindFilesystem, rescue.Released, ""), "thawed x", ""},
		{of(rescue.KindFilesystem, rescue.Free, ""), "", ""},
		{of(rescue.KindFilesystem, rescue.Gone, "unmounted"), "left alone x, which is not mounted any more", ""},
		{of(rescue.KindDevice, rescue.Stuck, "it hangs"), "", "cannot release device x: it hangs"},
		{of(rescue.KindFilesystem, rescue.Failed, "EIO"), "", "cannot release filesystem x: EIO"},
	} {
		did, err := told([]rescue.Outcome{tt.outcome})
		var want []string
		if tt.did != "" {
			want = []string{tt.did}
		}
		if !slices.Equal(did, want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%+v: %q, %v", tt.outcome, did, err)
		}
	}
}

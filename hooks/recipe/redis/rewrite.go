package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// minSize is the size below which the server starts no rewrite of its own.
const minSize = "auto-aof-rewrite-min-size"

// offset is what is added to minSize while rewrites are held off: 1 EiB, which no
// file reaches. The old value can be read from the new one, so that nothing is
// lost if this process dies: the next set finds the mark and takes it away.
const offset = 1 << 60

// holdOff keeps the server from rewriting its append-only file by itself, and
// waits for a rewrite that runs. An administrator's own BGREWRITEAOF is not kept
// from starting later; it does no harm (see the package comment).
func (w *writer) holdOff(ctx context.Context) error {
	size, err := rewriteSize(ctx, w.conn)
	if err != nil {
		return err
	}
	w.heldOff = true // from here on it is undone, whatever the answer
	if err := setRewriteSize(ctx, w.conn, markedSize(size)); err != nil {
		return err
	}
	return await(ctx, w.conn, pollEvery, "a save or a rewrite of the append-only file has not ended in time",
		func(now info) (bool, error) { return !now.busy(), now.appends() })
}

// appends is nil if the server can write its append-only file.
func (i info) appends() error {
	if status := i["aof_last_write_status"]; status != "ok" {
		return fmt.Errorf("the server cannot write its append-only file (aof_last_write_status is %q): its log says why", status)
	}
	return nil
}

// allowRewrites takes the mark away, if there is one.
func allowRewrites(ctx context.Context, c *conn) error {
	size, err := rewriteSize(ctx, c)
	if err != nil {
		return err
	}
	if size == plainSize(size) {
		return nil
	}
	return setRewriteSize(ctx, c, plainSize(size))
}

// markedSize is a size with the mark, plainSize one without.
func markedSize(size int64) int64 { return plainSize(size) + offset }

func plainSize(size int64) int64 {
	if size >= offset {
		return size - offset
	}
	return size
}

func rewriteSize(ctx context.Context, c *conn) (int64, error) {
	text, err := setting(ctx, c, minSize)
	if err != nil {
		return 0, err
	}
	size, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cannot understand the setting %s: %w", minSize, err)
	}
	return size, nil
}

func setRewriteSize(ctx context.Context, c *conn, size int64) error {
	if _, err := c.do(ctx, "CONFIG", "SET", minSize, strconv.FormatInt(size, 10)); err != nil {
		return fmt.Errorf("cannot set %s to %d: %w", minSize, size, granted(err))
	}
	return nil
}

// appended waits, with writes paused, until the server has handed everything to
// the kernel that belongs into its append-only file, and returns that one's size.
func appended(ctx context.Context, c *conn) (size int64, err error) {
	err = await(ctx, c, pollEvery/10, "the server still has something to append to its file: an fsync takes long",
		func(now info) (bool, error) {
			left, err := now.number("aof_buffer_length")
			if err == nil {
				size, err = now.number("aof_current_size")
			}
			return left == 0, errors.Join(err, now.appends())
		})
	return size, err
}

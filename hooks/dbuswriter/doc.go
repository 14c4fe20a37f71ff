// Package dbuswriter makes a service a writer of Fermata over D-Bus: fermatad asks it to hold still for a snapshot set,
// and to let go again.
//
// A service needs two functions, one that makes it hold still and one that lets it go on, and a connection to the system
// bus:
//
//	w := &dbuswriter.Writer{
//		Name:   "stock",
//		Freeze: func(ctx context.Context, e dbuswriter.Event) (map[string]any, error) { return nil, store.Lock(ctx) },
//		Thaw:   func(context.Context, dbuswriter.Event) (map[string]any, error) { store.Unlock(); return nil, nil },
//	}
//	err := w.Serve(ctx, conn)
//
// Serve registers the writer, and does so again whenever fermatad was started anew. It calls the functions one at a time.
// Thaw is called exactly once for each Freeze that was called, also one that failed: when Fermata asks for it, or when
// nobody can ask for it any more: fermatad died, the bus is gone, ctx ended, or the hold became longer than MaxHold. In
// that case Fermata learns that the hold did not last, and no set is made of it.
//
// Between Freeze and Thaw the filesystems of the service may be frozen: it must write nothing then, its log included.
//
// Root may register a writer, and whom polkit allows the action org.fermata.fermata1.register-writer. A writer that
// /etc/fermata/writers.d declares with "type: dbus" may also be registered by the user that is named there. docs/dbus.md
// describes the interface that this package implements.
package dbuswriter

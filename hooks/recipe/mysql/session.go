package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// Numbers of errors (MySQL manual, "Server Error Message Reference").
const (
	errDBAccess       = 1044
	errAccess         = 1045
	errTableAccess    = 1142
	errColumnAccess   = 1143
	errSpecificAccess = 1227
	errAccessNoPasswd = 1698 // ER_ACCESS_DENIED_NO_PASSWORD_ERROR
)

// session is one connection, no pool: a lock belongs to it.
type session struct {
	conn driver.Conn
	id   string // CONNECTION_ID()
}

// row is one row as text by the columns' names in lower case; NULL is empty.
type row map[string]string

// open opens a session.
func open(ctx context.Context, c *mysql.Config) (*session, error) {
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	conn, err := connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn}
	r, err := s.one(ctx, "SELECT CONNECTION_ID() AS id", "which connection this is")
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.id = r["id"]
	return s, nil
}

// exec runs a statement; the end of ctx closes the connection.
func (s *session) exec(ctx context.Context, statement string) error {
	_, err := s.query(ctx, statement)
	return err
}

// one runs a statement that has one row, which tells what.
func (s *session) one(ctx context.Context, statement, what string) (row, error) {
	rows, err := s.query(ctx, statement)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("%d rows instead of one", len(rows))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s: %w", what, err)
	}
	return rows[0], nil
}

// query runs a statement and returns its rows.
func (s *session) query(ctx context.Context, statement string) (found []row, err error) {
	rows, err := s.conn.(driver.QueryerContext).QueryContext(ctx, statement, nil)
	if err != nil {
		return nil, ended(ctx, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	names := rows.Columns()
	values := make([]driver.Value, len(names))
	for {
		switch err := rows.Next(values); {
		case errors.Is(err, io.EOF):
			return found, nil
		case err != nil:
			return nil, ended(ctx, err)
		}
		r := row{}
		for i, name := range names {
			r[strings.ToLower(name)] = text(values[i])
		}
		found = append(found, r)
	}
}

// ended says that ctx closed the connection, where the driver names only the
// consequence.
func ended(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		return errors.Join(err, cause)
	}
	return err
}

func text(v driver.Value) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []byte:
		return string(v)
	}
	return fmt.Sprint(v)
}

// kill ends another session, and what that waits for.
func (s *session) kill(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := s.exec(ctx, "KILL "+id); err != nil {
		return fmt.Errorf("cannot kill connection %s: %w", id, err)
	}
	return nil
}

// close ends the session; a connection that broke before is closed, too.
func (s *session) close() error {
	if s == nil {
		return nil
	}
	_ = s.conn.Close() // the goodbye may fail; the socket is closed either way
	return nil
}

func hasNumber(err error, numbers ...uint16) bool {
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return false
	}
	for _, n := range numbers {
		if e.Number == n {
			return true
		}
	}
	return false
}

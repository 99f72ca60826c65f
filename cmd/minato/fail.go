package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"minato.example/internal/rpc"
)

// What a script may rely on.
const (
	exitDone    = 0
	exitFailed  = 1 // the work failed
	exitUsage   = 2 // wrong usage or input
	exitRefused = 3 // refused by policy
	exitAccess  = 4 // not enrolled or not allowed
	exitQueued  = 5 // stored on this machine, the hub was not reached
	exitCheck   = 6 // a check did not pass
)

// bilingual is an error that can be told in Japanese; Error is English.
type bilingual interface {
	error
	Japanese() string
}

// failure is an error of this program: what is wrong, what to type next and
// the exit code.
type failure struct {
	code int
	what Text
	next Text  // may be empty
	err  error // the cause, may be nil
}

func (f *failure) Error() string    { return f.in(english) }
func (f *failure) Japanese() string { return f.in(japanese) }
func (f *failure) Unwrap() error    { return f.err }

func (f *failure) in(l language) string {
	if next := f.next.in(l); next != "" {
		return f.what.in(l) + "\n" + next
	}
	return f.what.in(l)
}

// usage is the failure of a command that was typed wrongly.
func usage(what, next Text) error {
	return &failure{code: exitUsage, what: what, next: next}
}

// badInput is the failure of a value that err describes.
func badInput(err error) error {
	return &failure{code: exitUsage, what: textOf(err), err: err}
}

// told ends a command with an exit code after it has said everything itself.
type told int

func (t told) Error() string { return fmt.Sprintf("exit code %d", int(t)) }

// textOf is what an error says to a person.
func textOf(err error) Text {
	if r, ok := rpc.RefusalOf(err); ok {
		return Text{JA: r.Japanese(), EN: r.Error()}
	}
	if b, ok := errors.AsType[bilingual](err); ok {
		return Text{JA: b.Japanese(), EN: b.Error()}
	}
	if s, ok := status.FromError(err); ok && s != nil {
		return textf("処理できませんでした: %s", "it did not work: %s", s.Message())
	}
	return textf("処理できませんでした: %s", "it did not work: %s", err.Error())
}

// exitCode is the exit code for the error of a command.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if t, ok := errors.AsType[told](err); ok {
		return int(t)
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f.code
	}
	code := rpc.ExitCode(err)
	if code == exitQueued {
		// A call that failed has stored nothing. What is queued comes back as
		// a state, never as an error.
		return exitFailed
	}
	return code
}

// complain prints an error as one block on stderr.
func (a *app) complain(err error) {
	if _, ok := errors.AsType[told](err); ok {
		return
	}
	fmt.Fprint(a.err, block(err, a.lang))
}

// block is what a person reads about an error: one mark for each thing that is
// wrong, and what to type next below it.
func block(err error, l language) string {
	var b strings.Builder
	item := func(what, next string) {
		first, rest, _ := strings.Cut(what, "\n")
		fmt.Fprintf(&b, "✗ %s\n", plain(first))
		for _, more := range []string{rest, next} {
			for line := range strings.SplitSeq(more, "\n") {
				if line != "" {
					fmt.Fprintf(&b, "  → %s\n", plain(line))
				}
			}
		}
	}
	if f, ok := errors.AsType[*failure](err); ok {
		item(f.what.in(l), f.next.in(l))
		return b.String()
	}
	if r, ok := rpc.RefusalOf(err); ok && len(r.Violations) > 0 {
		for _, v := range r.Violations {
			what := Text{JA: v.Japanese, EN: v.English}.in(l)
			if v.Field != "" {
				what = v.Field + ": " + what
			}
			item(what, "")
		}
		return b.String()
	}
	item(textOf(err).in(l), "")
	return b.String()
}

// ended says whether err only tells that the person or the supervisor ended
// the command.
func ended(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled)
}

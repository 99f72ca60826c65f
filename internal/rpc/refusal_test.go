package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func TestEveryRefusalFitsItsBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.Custom(func(t *rapid.T) string {
			return strings.Repeat(rapid.SampledFrom([]string{"", "a", "港", "\xff", "🚢", "\x00"}).Draw(t, "piece"), rapid.IntRange(0, 3000).Draw(t, "times"))
		})
		r := &Refusal{Code: codes.Code(rapid.IntRange(1, 16).Draw(t, "code")), Reason: text.Draw(t, "reason")}
		n := rapid.IntRange(0, 120).Draw(t, "violations")
		v := Violation{Field: text.Draw(t, "field"), Reason: text.Draw(t, "violation reason"), Japanese: text.Draw(t, "ja"), English: text.Draw(t, "en")}
		for range n {
			r.Violations = append(r.Violations, v)
		}
		st := r.GRPCStatus()
		wire, err := proto.Marshal(st.Proto())
		require.NoError(t, err)
		require.Less(t, len(wire), 8<<10)
		require.Equal(t, r.Code, st.Code())
		got, ok := RefusalOf(st.Err())
		require.True(t, ok)
		require.LessOrEqual(t, len(got.Violations), maxViolations+1)
		if n <= maxViolations && len(got.Violations) == n {
			return
		}
		require.NotEmpty(t, got.Violations)
		last := got.Violations[len(got.Violations)-1]
		require.Equal(t, reasonMore, last.Reason)
		require.Contains(t, last.English, fmt.Sprintf(" %d ", n-len(got.Violations)+1))
	})
}

func TestFiftyViolationsCrossWhole(t *testing.T) {
	r := &Refusal{Code: codes.InvalidArgument, Reason: "MANY"}
	for i := range 50 {
		r.Violations = append(r.Violations, Violation{Field: fmt.Sprintf("f%d", i), Reason: "R", Japanese: "誤り", English: "wrong"})
	}
	got, ok := RefusalOf(r.GRPCStatus().Err())
	require.True(t, ok)
	require.Equal(t, r, got)
}

func TestClippedTextIsValid(t *testing.T) {
	for n := range 12 {
		require.True(t, utf8.ValidString(clip("港湾のハブ", n)))
	}
	require.Equal(t, "港", clip("港", 3))
}

func TestARefusalNeverReadsAsSuccess(t *testing.T) {
	require.NotEqual(t, codes.OK, (&Refusal{}).GRPCStatus().Code())
}

func TestRefusalIsFoundWhereverItIs(t *testing.T) {
	r := Refuse(codes.NotFound, "NOT_FOUND", "report_id", "ありません。", "None.")
	foreign, err := status.New(codes.NotFound, "x").WithDetails(&errdetails.ErrorInfo{Reason: "X", Domain: "other.example"})
	require.NoError(t, err)
	for _, err := range []error{r, fmt.Errorf("show: %w", r), errors.Join(io.EOF, r), r.GRPCStatus().Err(), fmt.Errorf("show: %w", r.GRPCStatus().Err()), Outside(r)} {
		got, ok := RefusalOf(err)
		require.True(t, ok)
		require.Equal(t, r, got)
	}
	for _, err := range []error{nil, io.EOF, status.Error(codes.NotFound, "x"), foreign.Err()} {
		_, ok := RefusalOf(err)
		require.False(t, ok)
	}
}

func TestOnlyRefusalsAndTheEndOfContextsGoOutside(t *testing.T) {
	require.NoError(t, Outside(nil))
	for _, err := range []error{
		errors.New("secret"), io.EOF, status.Error(codes.NotFound, "secret"), status.Error(codes.Unavailable, "secret"),
		fmt.Errorf("x: %w", status.Error(codes.ResourceExhausted, "secret")),
	} {
		require.Equal(t, "rpc error: code = Internal desc = internal error", Outside(err).Error())
	}
	for err, want := range map[error]codes.Code{
		fmt.Errorf("secret: %w", context.Canceled):         codes.Canceled,
		fmt.Errorf("secret: %w", context.DeadlineExceeded): codes.DeadlineExceeded,
		status.Error(codes.Canceled, "secret"):             codes.Canceled,
		status.Error(codes.DeadlineExceeded, "secret"):     codes.DeadlineExceeded,
	} {
		got := Outside(err)
		require.Equal(t, want, status.Code(got))
		require.NotContains(t, got.Error(), "secret")
	}
	out := Outside(fmt.Errorf("secret: %w", Refuse(codes.NotFound, "R", "f", "ja", "en")))
	require.NotContains(t, out.Error(), "secret")
	require.Equal(t, codes.NotFound, status.Code(out))
}

func TestExitCodesAreThoseOfTheDesign(t *testing.T) {
	want := map[codes.Code]int{
		codes.InvalidArgument: 2, codes.NotFound: 2, codes.AlreadyExists: 2, codes.ResourceExhausted: 2, codes.OutOfRange: 2,
		codes.FailedPrecondition: 3,
		codes.Unauthenticated:    4, codes.PermissionDenied: 4,
		codes.Unavailable: 5, codes.DeadlineExceeded: 5,
	}
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		code, ok := want[c]
		if !ok {
			code = 1
		}
		require.Equal(t, code, ExitCode(status.Error(c, "x")), c)
		require.Equal(t, code, ExitCode(fmt.Errorf("report: %w", Refuse(c, "R", "", "", ""))), c)
		require.Equal(t, code, ExitCode(Refuse(c, "R", "", "", "").GRPCStatus().Err()), c)
	}
	require.Zero(t, ExitCode(nil))
	require.Equal(t, 1, ExitCode(io.EOF))
	require.Equal(t, 1, ExitCode(context.Canceled))
	require.Equal(t, 5, ExitCode(fmt.Errorf("x: %w", context.DeadlineExceeded)))
	require.Equal(t, 1, ExitCode(&NotRunning{Path: "x"}))
}

func TestAlertsAboutTheCertificateAreKnown(t *testing.T) {
	for message, want := range map[string]bool{
		"connection error: desc = \"error reading server preface: remote error: tls: bad certificate\"": true,
		"remote error: tls: expired certificate":                                                        true,
		"remote error: tls: unknown certificate authority":                                              true,
		"remote error: tls: handshake failure":                                                          false,
		"remote error: tls: internal error":                                                             false,
		"bad certificate":                                                                               false,
		"connection refused":                                                                            false,
	} {
		err := explain(status.Error(codes.Unavailable, message))
		r, ok := RefusalOf(err)
		require.Equal(t, want, ok, message)
		if want {
			require.Equal(t, "CERTIFICATE_REFUSED", r.Reason)
			require.Equal(t, 4, ExitCode(err))
		}
	}
	require.NoError(t, explain(nil))
	require.ErrorIs(t, explain(io.EOF), io.EOF)
}

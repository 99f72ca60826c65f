package hub

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"

	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// methods is every method of the hub's door, with whether it streams.
func methods() map[string]bool {
	all, service := map[string]bool{}, pb.HubService_ServiceDesc
	for _, m := range service.Methods {
		all["/"+service.ServiceName+"/"+m.MethodName] = false
	}
	for _, s := range service.Streams {
		all["/"+service.ServiceName+"/"+s.StreamName] = true
	}
	return all
}

func TestEveryMethodHasARowAndOnlyJoinIsOpen(t *testing.T) {
	require.Len(t, access, len(methods()), "no row for a method that is not there")
	for method := range methods() {
		who, ok := access[method]
		require.True(t, ok, "no row for %s", method)
		require.Equal(t, method == pb.HubService_Join_FullMethodName, who == rpc.Anyone, method)
	}
}

// call calls any method with an empty request.
func call(conn *grpc.ClientConn, method string, streams bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if !streams {
		return conn.Invoke(ctx, method, new(emptypb.Empty), new(emptypb.Empty))
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	_ = stream.SendMsg(new(emptypb.Empty)) // RecvMsg tells why
	return stream.RecvMsg(new(emptypb.Empty))
}

func TestNobodyWithoutACertificateGetsPastTheDoor(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	m := h.join("a", pb.Role_ROLE_OPERATOR)
	conn, err := rpc.DialHub(m.addr, rpc.ClientTLS(m.root, noCertificate))
	require.NoError(t, err)
	defer conn.Close()
	for method, streams := range methods() {
		err := call(conn, method, streams)
		if method == pb.HubService_Join_FullMethodName {
			requireReason(t, err, "KEY_INVALID") // it came in, with nothing to show
			continue
		}
		require.Equal(t, codes.Unauthenticated, requireReason(t, err, "CERTIFICATE_MISSING").Code, method)
	}
}

func TestTheAdministratorsDoorIsNotOnTheNetwork(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	m := h.join("a", pb.Role_ROLE_OPERATOR)
	for _, method := range pb.AdminService_ServiceDesc.Methods {
		err := call(m.conn, "/"+pb.AdminService_ServiceDesc.ServiceName+"/"+method.MethodName, false)
		require.Equal(t, codes.Unimplemented, requireReason(t, err, "METHOD_UNKNOWN").Code, method.MethodName)
	}
}

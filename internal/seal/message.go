package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
)

// Directions of a session. A message of one never opens as one of the other.
const (
	ToNode = "to-node" // SessionMessage
	ToHub  = "to-hub"  // Envelope of a DeliveryReceipt
)

// ErrSealed: the message was not sealed with this key for this session and
// direction, or was changed on the way.
var ErrSealed = errors.New("sealed message does not open")

// SealMessage seals one message of a session with AES-256-GCM. A random nonce
// stands in front; 28 bytes are added. One key seals at most 2^32 messages.
// Session and direction are bound: what goes to the node cannot be sent back
// to the hub, nor into another session.
func SealMessage(key []byte, session, direction string, plaintext []byte) ([]byte, error) {
	aead, err := sessionCipher(key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, plaintext, sessionData(session, direction)), nil
}

// OpenMessage opens what SealMessage sealed with the same key, session and
// direction.
func OpenMessage(key []byte, session, direction string, sealed []byte) ([]byte, error) {
	aead, err := sessionCipher(key)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nil, sealed, sessionData(session, direction))
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}

func sessionCipher(key []byte) (cipher.AEAD, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("session key has %d bytes, not 32", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// sessionData gives lengths, so that no two pairs share an encoding.
func sessionData(session, direction string) []byte {
	b := []byte("minato session v1")
	for _, s := range []string{session, direction} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

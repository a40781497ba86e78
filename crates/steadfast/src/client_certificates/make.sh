#!/bin/sh
# Makes the certificates that the tests of client_certificates.rs read. They are valid for a hundred years.
set -eu
cd "$(dirname "$0")"
forever=36500
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$1"; }
authority() { openssl req -x509 -key "$1" -subj "$2" -days $forever -out "$3"; }
sign() { # request, authority's certificate, its key, where to, more
    request=$1 ca=$2 key=$3 to=$4
    shift 4
    openssl x509 -req -in "$request" -CA "$ca" -CAkey "$key" -CAcreateserial -out "$to" "$@"
}
work=$(mktemp -d)
key ca.key; authority ca.key /CN=steadfast-ca ca.crt
key "$work/other.key"; authority "$work/other.key" /CN=steadfast-ca "$work/same-name.crt"
authority "$work/other.key" /CN=another "$work/another.crt"
key client.key
openssl req -new -key client.key -subj /O=people/CN=anna -out "$work/client.csr"
openssl req -new -key "$work/other.key" -subj /O=people/CN=anna -out "$work/other.csr"
sign "$work/client.csr" ca.crt ca.key client.crt -days $forever
sign "$work/client.csr" ca.crt ca.key expired.crt -days -1
sign "$work/client.csr" ca.crt ca.key sha1.crt -days $forever -sha1
sign "$work/client.csr" "$work/same-name.crt" "$work/other.key" forged.crt -days $forever
sign "$work/client.csr" "$work/another.crt" "$work/other.key" foreign.crt -days $forever
sign "$work/other.csr" ca.crt ca.key other_key.crt -days $forever
rm -r "$work" ./*.srl

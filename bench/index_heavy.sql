-- The index-heavy data set: about 1.5 GB with indexes at scale 1 (psql -v scale=1). The same rows each time: every value
-- comes from generate_series and a hash of its number.
SET synchronous_commit = off;
SET timezone = 'UTC';
SELECT greatest(1000, round(200000 * :scale))::bigint AS customers, greatest(10000, round(2100000 * :scale))::bigint AS orders,
       greatest(100, round(32000 * :scale))::bigint AS attachments \gset

CREATE TABLE customer (
    id bigint NOT NULL,
    email text NOT NULL,
    name text NOT NULL,
    country character(2) NOT NULL,
    interests text[] NOT NULL,
    joined timestamptz NOT NULL
);
CREATE TABLE purchase (
    id bigint NOT NULL,
    customer_id bigint NOT NULL,
    reference uuid NOT NULL,
    placed timestamptz NOT NULL,
    total numeric(12,2) NOT NULL,
    state text NOT NULL,
    product_ids integer[] NOT NULL,
    details jsonb NOT NULL,
    note text
);
CREATE TABLE attachment (
    id bigint NOT NULL,
    purchase_id bigint NOT NULL,
    file_name text NOT NULL,
    content bytea NOT NULL
);
ALTER TABLE attachment ALTER COLUMN content SET STORAGE EXTERNAL; -- out of line and not compressed

INSERT INTO customer
SELECT i, md5(i::text) || '@example.com', 'Customer ' || to_hex(i) || ' ' || left(md5((i * 7)::text), 12),
       (ARRAY['DE', 'FR', 'IT', 'ES', 'PL', 'NL', 'AT', 'SE'])[1 + (hashint8(i) & 7)],
       ARRAY['topic-' || (hashint8(i) & 63), 'topic-' || (hashint8(i + 1) & 63)],
       timestamptz '2020-01-01' + (hashint8(i) & 134217727) * interval '1 second'
FROM generate_series(1, :customers) AS i;

INSERT INTO purchase
SELECT i, 1 + (hashint8(i) & 2147483647) % :customers, md5('purchase ' || i)::uuid,
       timestamptz '2021-01-01' + (hashint8(-i) & 134217727) * interval '1.001 second',
       (hashint8(i * 3) & 16777215) / 100.0,
       (ARRAY['new', 'paid', 'packed', 'sent', 'delivered', 'returned', 'cancelled', 'lost'])[1 + (hashint8(i * 5) & 7)],
       ARRAY[hashint8(i) & 8191, hashint8(i + 1) & 8191, hashint8(i + 2) & 8191],
       jsonb_build_object('channel', (ARRAY['web', 'app', 'shop', 'phone'])[1 + (hashint8(i) & 3)],
                          'campaign', 'c' || (hashint8(i * 11) & 1023), 'items', hashint8(i) & 15,
                          'address', jsonb_build_object('city', 'city-' || (hashint8(i * 13) & 4095), 'zip', hashint8(i) & 65535)),
       CASE WHEN i % 3 = 0 THEN repeat('A note on purchase ' || i || '. ', 3) END
FROM generate_series(1, :orders) AS i;

INSERT INTO attachment
SELECT i, 1 + (hashint8(i) & 2147483647) % :orders, 'invoice-' || i || '.pdf',
       decode(repeat(md5(i::text) || md5((-i)::text), 400), 'hex')
FROM generate_series(1, :attachments) AS i;

ALTER TABLE customer ADD CONSTRAINT customer_pkey PRIMARY KEY (id);
ALTER TABLE purchase ADD CONSTRAINT purchase_pkey PRIMARY KEY (id);
ALTER TABLE attachment ADD CONSTRAINT attachment_pkey PRIMARY KEY (id);
CREATE UNIQUE INDEX customer_email ON customer (email);
CREATE UNIQUE INDEX purchase_reference ON purchase (reference);
CREATE INDEX purchase_customer ON purchase (customer_id, placed);
CREATE INDEX purchase_placed ON purchase (placed);
CREATE INDEX purchase_total ON purchase (total) WHERE state <> 'cancelled';
CREATE INDEX purchase_details ON purchase USING gin (details jsonb_path_ops);
ALTER TABLE purchase ADD CONSTRAINT purchase_customer_fkey FOREIGN KEY (customer_id) REFERENCES customer (id);
ALTER TABLE attachment ADD CONSTRAINT attachment_purchase_fkey FOREIGN KEY (purchase_id) REFERENCES purchase (id);

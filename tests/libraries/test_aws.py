"""aiobotocore (aiohttp beneath) against moto's server, which answers as S3 and SQS do."""

from __future__ import annotations

import asyncio

import pytest

from tests.peers.programs import package


@pytest.fixture
def client(s3):
    session = package("aiobotocore.session").get_session()

    def make(service):
        return session.create_client(
            service,
            region_name="eu-central-1",
            endpoint_url=s3,
            aws_access_key_id="someone",
            aws_secret_access_key="secret",
        )

    return make


def test_objects_are_stored_listed_and_streamed(run, client):
    errors = package("botocore.exceptions")

    async def main():
        body = bytes(range(256)) * 8192
        async with client("s3") as s3:
            await s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
            names = [f"object{number}" for number in range(20)]
            await asyncio.gather(*(s3.put_object(Bucket="bucket", Key=name, Body=body) for name in names))
            listed = await s3.list_objects_v2(Bucket="bucket")
            assert sorted(entry["Key"] for entry in listed["Contents"]) == sorted(names)
            answer = await s3.get_object(Bucket="bucket", Key="object7")
            async with answer["Body"] as stream:
                pieces = [piece async for piece in stream.iter_chunks(50_000)]
            assert b"".join(pieces) == body
            with pytest.raises(errors.ClientError, match="NoSuchKey"):
                await s3.get_object(Bucket="bucket", Key="nothing")
            await asyncio.gather(*(s3.delete_object(Bucket="bucket", Key=name) for name in names))
            await s3.delete_bucket(Bucket="bucket")

    run(main)


def test_messages_are_queued_and_taken(run, client):
    async def main():
        async with client("sqs") as sqs:
            address = (await sqs.create_queue(QueueName="queue"))["QueueUrl"]
            for number in range(10):
                await sqs.send_message(QueueUrl=address, MessageBody=str(number))
            taken = []
            while len(taken) < 10:
                answer = await sqs.receive_message(QueueUrl=address, MaxNumberOfMessages=10, WaitTimeSeconds=1)
                for message in answer.get("Messages", []):
                    taken.append(int(message["Body"]))
                    await sqs.delete_message(QueueUrl=address, ReceiptHandle=message["ReceiptHandle"])
            assert sorted(taken) == list(range(10))
            await sqs.delete_queue(QueueUrl=address)

    run(main)

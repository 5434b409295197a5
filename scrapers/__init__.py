"""The Scrapy project: knows review pages; knows nothing of storage, SQL or models."""
